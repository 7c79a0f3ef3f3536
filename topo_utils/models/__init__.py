"""Models and the networks in them. Every model has ``sample(count, generator, condition)``.

The VAE (:mod:`vae`) and the diffusion model (:mod:`diffusion`); the initial autoencoder F and the judge (:mod:`features`);
the networks of each domain (:mod:`networks`, :mod:`unet`) and what they say of an item (:mod:`likelihoods`).
"""
