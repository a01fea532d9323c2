"""Pure functions on tensors; noise is an argument, nothing here holds state or draws numbers."""
