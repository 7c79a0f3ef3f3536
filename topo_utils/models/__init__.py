"""Networks: the initial autoencoder F and the judge (:mod:`features`), the VAE (:mod:`vae`)."""
