"""A tab of a browser as a site: the page, and what serves it and passes its calls on."""
