"""The rounds of any Flower strategy; imports `common` alone, so the folder can be lifted out."""
