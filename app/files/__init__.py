"""Files of series in long format: read, checked and laid on a regular grid."""
