// Command sensors turns readings into windowed aggregates.
//
// It reads one JSON object a line from standard input, {"ts": milliseconds, "sensor": name, "value": number}, and writes
// one JSON object a line: for each tumbling window and sensor the count, least, mean and greatest value, and at the end
// a summary.
//
// Late data: the watermark is the greatest timestamp seen, less the allowed lateness. A window is written when the
// watermark reaches its end, in the order of (start, sensor). A reading whose window has been written is late: it is
// counted and dropped. A line that is not a reading is counted as malformed. The end of input closes every window.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"sort"
)

type reading struct {
	TS     *int64   `json:"ts"`
	Sensor string   `json:"sensor"`
	Value  *float64 `json:"value"`
}

type aggregate struct {
	count     int64
	sum       float64
	low, high float64
}

type aggregator struct {
	width, lateness int64
	open            map[int64]map[string]*aggregate // by start of the window, then by sensor
	newest          int64
	seen            bool
	readings        int64
	late            int64
	malformed       int64
	written         int64
	out             *bufio.Writer
}

// windowStart is the floor of ts to a multiple of the width, for timestamps before the epoch as well.
func (a *aggregator) windowStart(ts int64) int64 {
	rest := ts % a.width
	if rest < 0 {
		rest += a.width
	}
	return ts - rest
}

func (a *aggregator) line(text []byte) error {
	var r reading
	if json.Unmarshal(text, &r) != nil || r.TS == nil || r.Value == nil || r.Sensor == "" {
		a.malformed++
		return nil
	}
	start := a.windowStart(*r.TS)
	if a.seen && start+a.width <= a.newest-a.lateness {
		a.late++
		return nil
	}
	a.readings++
	sensors := a.open[start]
	if sensors == nil {
		sensors = map[string]*aggregate{}
		a.open[start] = sensors
	}
	g := sensors[r.Sensor]
	if g == nil {
		g = &aggregate{low: math.Inf(1), high: math.Inf(-1)}
		sensors[r.Sensor] = g
	}
	g.count++
	g.sum += *r.Value
	g.low = math.Min(g.low, *r.Value)
	g.high = math.Max(g.high, *r.Value)
	if !a.seen || *r.TS > a.newest {
		a.newest, a.seen = *r.TS, true
		return a.close(a.newest - a.lateness)
	}
	return nil
}

// close writes and forgets every window that ends at or before the watermark.
func (a *aggregator) close(watermark int64) error {
	var starts []int64
	for start := range a.open {
		if start+a.width <= watermark {
			starts = append(starts, start)
		}
	}
	sort.Slice(starts, func(i, j int) bool { return starts[i] < starts[j] })
	for _, start := range starts {
		if err := a.write(start); err != nil {
			return err
		}
		delete(a.open, start)
	}
	return nil
}

func (a *aggregator) write(start int64) error {
	sensors := a.open[start]
	names := make([]string, 0, len(sensors))
	for name := range sensors {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		g := sensors[name]
		quoted, err := json.Marshal(name)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(a.out, `{"start":%d,"end":%d,"sensor":%s,"count":%d,"min":%.4f,"mean":%.4f,"max":%.4f}`+"\n",
			start, start+a.width, quoted, g.count, g.low, g.sum/float64(g.count), g.high)
		if err != nil {
			return err
		}
		a.written++
	}
	return nil
}

func run(in io.Reader, out io.Writer, width, lateness int64) error {
	a := &aggregator{width: width, lateness: lateness, open: map[int64]map[string]*aggregate{},
		out: bufio.NewWriterSize(out, 1<<16)}
	lines := bufio.NewScanner(in)
	lines.Buffer(make([]byte, 1<<16), 1<<20)
	for lines.Scan() {
		if len(lines.Bytes()) == 0 {
			continue
		}
		if err := a.line(lines.Bytes()); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	if err := a.close(math.MaxInt64); err != nil {
		return err
	}
	fmt.Fprintf(a.out, `{"readings":%d,"late":%d,"malformed":%d,"aggregates":%d}`+"\n",
		a.readings, a.late, a.malformed, a.written)
	return a.out.Flush()
}

func main() {
	width := flag.Int64("window", 10000, "width of a window in milliseconds")
	lateness := flag.Int64("lateness", 2000, "how late a reading may come, in milliseconds")
	flag.Parse()
	if *width <= 0 || *lateness < 0 || flag.NArg() != 0 {
		fmt.Fprintln(os.Stderr, "usage: sensors [-window MS] [-lateness MS] < READINGS")
		os.Exit(2)
	}
	if err := run(os.Stdin, os.Stdout, *width, *lateness); err != nil {
		fmt.Fprintln(os.Stderr, "sensors:", err)
		os.Exit(1)
	}
}
