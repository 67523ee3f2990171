"""Networks, bundles, and the backends and ensembles that compute with them."""
