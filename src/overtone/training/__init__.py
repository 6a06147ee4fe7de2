"""Training: what each network learns from and by, and Lightning around it."""
