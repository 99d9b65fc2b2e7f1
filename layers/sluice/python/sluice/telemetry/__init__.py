"""What the platform tells its operators: logs, traces and metrics. Prompts, answers and keys never get here."""
