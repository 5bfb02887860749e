"""What it means: evaluation, figures, tables and labels."""
