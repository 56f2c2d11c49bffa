"""The networks: blocks, encoder, decoder, and the masked autoencoder made of them."""
