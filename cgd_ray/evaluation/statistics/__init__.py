"""What graded answers say about a model, and how sure that is: rates, intervals, bands, comparisons, seeds and the power of a design.

Nothing here reads a file or knows a benchmark: in come truth values by problem, out come numbers. scipy and statsmodels do the work.
"""
