"""In-memory fakes of the domain's ports, for tests only. Packaging leaves this folder out of the layer."""
