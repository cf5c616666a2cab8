"""Small parts that every other folder may use: fan-out, cancellation, redaction, text, checks."""
