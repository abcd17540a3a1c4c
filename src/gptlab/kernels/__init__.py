"""The mathematics that costs time, as functions of tensors: a plain form and faster ones."""
