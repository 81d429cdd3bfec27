"""A kit for reproductions: runs of recipes, comparison at equal forgetting, results by arm, findings, figures."""
