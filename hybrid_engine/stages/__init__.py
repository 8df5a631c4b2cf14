"""The stages of the pipeline and the channels between them."""
