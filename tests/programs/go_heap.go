// A program of Go without C: its runtime asks the kernel for memory by itself. Ends as the other
// traced programs do; its truth is what the kernel says is mapped.
package main

import (
	"bufio"
	"fmt"
	"os"
	"runtime/debug"
)

var kept [][]byte

// Bytes of mappings that can be written to: the runtime sets more addresses aside. By the process's
// number, because what `self` means is up to whoever has mounted /proc.
func usable() (bytes int64) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", os.Getpid()))
	if err != nil {
		panic(err)
	}
	var pages, other int64
	fmt.Sscanf(string(text), "%d %d %d %d %d %d", &other, &other, &other, &other, &other, &pages)
	return pages * int64(os.Getpagesize())
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
