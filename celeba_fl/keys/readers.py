"""Which tasks of this package read a key, for `of`."""

IMAGES, FACES, HEAD = "attributes lenet dcgan", "attributes dcgan", "attributes"
