"""Links in this process: Fabric's Connection over Paramiko."""
