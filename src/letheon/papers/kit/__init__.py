"""A kit for reproductions: runs of several recipes, comparison at equal forgetting, judged findings, line figures."""
