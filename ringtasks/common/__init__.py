"""Small parts with no subject above them: fan-out, cancellation, redaction, text, checks."""
