"""Where models are served: a local gateway, gateways on Kubernetes, or KServe. One contract, one conformance suite."""
