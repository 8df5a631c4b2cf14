"""The exchanges' frames, and what each is. One more exchange is one more module here, named as its kind."""
