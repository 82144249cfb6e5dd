package main

import (
	"bytes"
	"image/color"
	"math"
	"path/filepath"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"

	"microrwkv/examples/internal/cli"
)

// picture draws the losses as a file of the format that its name ends in.
func (l *log) picture(path string) error {
	p := plot.New()
	p.X.Label.Text, p.Y.Label.Text = "step", "loss"
	p.Add(plotter.NewGrid())
	for _, c := range [...]struct {
		name   string
		points points
		color  color.Color
		width  vg.Length
	}{
		{"", l.steps, color.RGBA{170, 190, 220, 255}, vg.Points(0.5)},
		{"train", l.train, color.RGBA{30, 90, 180, 255}, vg.Points(1.5)},
		{"val", l.val, color.RGBA{210, 90, 30, 255}, vg.Points(1.5)},
	} {
		var xy plotter.XYs
		for i, x := range c.points.x {
			if y := c.points.y[i]; !math.IsNaN(y) {
				xy = append(xy, plotter.XY{X: x, Y: y})
			}
		}
		if len(xy) == 0 {
			continue
		}
		line, err := plotter.NewLine(xy)
		if err != nil {
			return err
		}
		line.Color, line.Width = c.color, c.width
		p.Add(line)
		if c.name != "" {
			p.Legend.Add(c.name, line)
		}
	}
	p.Legend.Top = true
	w, err := p.WriterTo(16*vg.Centimeter, 10*vg.Centimeter, strings.TrimPrefix(filepath.Ext(path), "."))
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if _, err := w.WriteTo(&b); err != nil {
		return err
	}
	return cli.WriteFile(path, b.Bytes())
}
