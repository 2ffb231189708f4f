"""Tables and figures as pages, and the R behind them."""
