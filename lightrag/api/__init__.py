"""The HTTP face: schemas, routes and error documents, over a pipeline it is given. Loads no model and no Ray."""
