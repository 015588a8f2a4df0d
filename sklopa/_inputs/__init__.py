"""What users hold -> rows and targets. Every message about X, y and parameters is here."""
