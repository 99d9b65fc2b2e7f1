"""The pure core: what requests, routes, prices, keys, jobs and events are. It imports nothing else of Sluice."""
