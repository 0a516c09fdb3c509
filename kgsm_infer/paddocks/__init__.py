"""One line per paddock, from a table or a scene."""
