"""`make bench`: what a request costs in time, CPU, memory and AWS calls, beside a handler that does the least."""
