"""Who is in a model of the closed form: clients that withdraw, and others that come late."""
