"""The whole platform on one machine: a local AWS, a local model server and what drives them. Never deployed."""
