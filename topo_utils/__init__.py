"""Topology-aware latent spaces in deep generative models: the module under the notebooks."""

__version__ = "0.2.0"
