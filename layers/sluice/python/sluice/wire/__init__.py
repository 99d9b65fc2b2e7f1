"""Wire formats: the structs that parse requests and render responses. Gateway models are generated from them."""
