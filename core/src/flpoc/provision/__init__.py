"""From a project file to kits, and from a kit to the identity it gives."""
