"""What each request is promised: classes, rules, resolution, and whether a promise was kept."""
