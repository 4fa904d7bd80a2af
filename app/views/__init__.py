"""One file a page; each reads like the page: header, controls, figure, actions."""
