"""Keeps the pairs of this router's workers judged, watched and explained."""
