"""The tests: a folder for each folder of qroar_core, and pages."""
