// A program of Go without C: its runtime asks the kernel for memory by itself. Ends as the other
// traced programs do; its truth is what the kernel says is mapped.
package main

import (
	"bufio"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
)

var kept [][]byte

// Bytes of anonymous mappings that can be used: the runtime sets more addresses aside.
func usable() (bytes int64) {
	text, _ := os.ReadFile("/proc/self/maps")
	for _, line := range strings.Split(string(text), "\n") {
		fields := strings.Fields(line)
		if len(fields) < 5 || fields[4] != "0" || fields[1] == "---p" {
			continue
		}
		if len(fields) > 5 && (fields[5] == "[stack]" || strings.HasPrefix(fields[5], "[v")) {
			continue
		}
		var start, end int64
		fmt.Sscanf(fields[0], "%x-%x", &start, &end)
		bytes += end - start
	}
	return bytes
}

//go:noinline
func grow() {
	for i := 0; i < 300; i++ {
		kept = append(kept, make([]byte, 1<<20))
	}
}

func answer(name string, bytes int64) {
	fmt.Printf("{\"truth\":\"number\",\"name\":\"%s\",\"value\":%d}\n", name, bytes)
	fmt.Println("done")
}

func main() {
	debug.SetGCPercent(-1)
	lines := bufio.NewReader(os.Stdin)
	usable()
	early := usable()
	fmt.Printf("ready %d\n", os.Getpid())
	if _, err := lines.ReadString('\n'); err != nil {
		return
	}
	before := usable()
	grow()
	// The runtime may map something of its own at any time.
	answer("at_least_bytes", usable()-before)
	lines.ReadString('\n')
	answer("at_most_bytes", usable()-early)
	lines.ReadString('\n')
	fmt.Fprintln(os.Stderr, len(kept))
}
