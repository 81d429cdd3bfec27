"""A kit for reproductions: runs of recipes, equal forgetting, results by arm, judged findings, figures."""
