"""Parts of the page that several screens have, or that lie beside them."""
