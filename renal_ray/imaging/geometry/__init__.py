"""Voxel grids in patient coordinates."""
