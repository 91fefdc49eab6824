"""Ray Serve deployments: each wraps one lightrag component; the ingress composes them."""
