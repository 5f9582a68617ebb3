"""The colours of all charts, with and without Altair."""

from __future__ import annotations

# Okabe and Ito's palette: distinguishable with every common colour vision.
BLUE, SKY, AMBER, RED = "#0072B2", "#56B4E9", "#E69F00", "#D55E00"
PINK, GREEN, GREY = "#CC79A7", "#009E73", "#8A9096"
# Of other fronts drawn beside one, in turn.
OTHERS = (GREEN, "#6A3D9A", "#8C6D00", "#5F6B76")
# On a dark page these stand out as the ones above do on a light one.
ON_DARK = {
    BLUE: "#4FA8E0",
    RED: "#FF8A3D",
    GREEN: "#2BC79A",
    "#6A3D9A": "#B592DD",
    "#8C6D00": "#CDA92B",
    "#5F6B76": "#9FABB6",
}
