"""What every function shares inside Lambda: settings, logs, traces, metrics, HTTP mapping and wiring."""
