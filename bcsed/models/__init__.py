"""Networks, bundles and what computes with them."""
