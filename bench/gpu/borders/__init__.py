"""Checks of the borders between framerail and other CUDA libraries; run by check_borders.py."""
