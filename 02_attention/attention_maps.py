"""Attention maps as a picture: one for each head, rows of tokens that look at columns of tokens."""

from matplotlib.figure import Figure


def visible(text):
    """Spaces and ends of lines as signs that can be seen."""
    return text.replace(" ", "·").replace("\n", "\\n")


def draw_maps(rows, lookers, looked_at=None):
    """A figure of attention maps. `rows` has a name for each row of pictures, and its maps (nh, T, S) as a tensor.

    `lookers` are the T tokens that look, `looked_at` the S tokens that are looked at (the same, by default). The
    colour goes from 0 to 1 in every picture, so that they can be compared.
    """
    looked_at = looked_at or lookers
    columns = max(len(maps) for maps in rows.values())
    width, height = 0.4 + 0.17 * len(looked_at), 0.4 + 0.17 * len(lookers)
    names = max(map(len, lookers)), max(map(len, looked_at))
    figure = Figure(figsize=(1.2 + 0.1 * names[0] + columns * width, 0.8 + 0.1 * names[1] + len(rows) * height),
                    layout="constrained")
    grid = figure.subplots(len(rows), columns, sharex=True, sharey=True, squeeze=False)
    for line, (name, maps) in zip(grid, rows.items()):
        for axes in line[len(maps) :]:
            axes.set_axis_off()
        for head, (axes, weights) in enumerate(zip(line, maps.tolist())):
            image = axes.imshow(weights, vmin=0, vmax=1, cmap="Blues")
            axes.set_title(f"{name}, head {head + 1}" if len(maps) > 1 else name, fontsize="small")
            axes.set_xticks(range(len(looked_at)), looked_at, rotation=90, fontsize=7, family="monospace")
            axes.set_yticks(range(len(lookers)), lookers, fontsize=7, family="monospace")
    figure.supylabel("this token ...", fontsize="medium")
    figure.supxlabel("... looks at this one", fontsize="medium")
    figure.colorbar(image, ax=grid, label="attention", shrink=0.5)
    return figure
