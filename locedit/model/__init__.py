"""Language models: families, modules by name, products."""
