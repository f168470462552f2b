"""Folders on a mounted disk or in an object store, behind one interface."""
