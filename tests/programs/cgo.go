// Goroutines that leak memory of C through cgo, and hold memory of Go beside it. Ends as the other
// traced programs do.
package main

/*
#include <stdlib.h>
#include <string.h>
__attribute__((noinline)) static void leak_in_c(size_t bytes)
{
	void *block = malloc(bytes);
	__asm__ volatile("" : : "r"(block) : "memory");
}
__attribute__((noinline)) static unsigned long use_in_c(unsigned long seed)
{
	unsigned char *block = malloc(1 + seed % 3000);
	memset(block, 3, 1 + seed % 3000);
	block = realloc(block, 4000);
	unsigned long sum = seed * 31 + block[0];
	free(block);
	return sum;
}
*/
import "C"

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"sync"
	"unsafe"
)

const (
	goroutines = 40
	rounds     = 200
	leaks      = 10
	leakBytes  = 600
)

var held [][]byte

func work(seed uint64) uint64 {
	sum := seed
	for i := 0; i < rounds; i++ {
		sum = uint64(C.use_in_c(C.ulong(sum)))
		text := C.CString(fmt.Sprint("text ", i))
		sum += uint64(C.strlen(text))
		C.free(unsafe.Pointer(text))
		garbage := make([]byte, 20000)
		sum += uint64(len(garbage))
		if i < leaks {
			C.leak_in_c(leakBytes)
			C.malloc(leakBytes)
		}
		if i%50 == 0 {
			runtime.Gosched()
		}
	}
	return sum
}

func main() {
	input := bufio.NewReader(os.Stdin)
	fmt.Println("ready", os.Getpid())
	if _, err := input.ReadString('\n'); err != nil {
		return
	}
	var all sync.WaitGroup
	sums := make([]uint64, goroutines)
	for i := range sums {
		all.Add(1)
		go func(i int) {
			defer all.Done()
			sums[i] = work(uint64(i))
		}(i)
	}
	all.Wait()
	for i := 0; i < 100; i++ {
		held = append(held, make([]byte, 100000))
	}
	runtime.GC()
	func() {
		defer func() { fmt.Println("recovered:", recover()) }()
		var nothing *int
		*nothing = 1
	}()
	sum := uint64(0)
	for _, one := range sums {
		sum = sum*31 + one
	}
	fmt.Println("sum", sum, len(held))
	count := goroutines * leaks
	fmt.Printf("{\"truth\":\"site\",\"site\":\"leak_in_c\",\"bytes\":%d,\"count\":%d}\n", count*leakBytes, count)
	fmt.Printf("{\"truth\":\"number\",\"name\":\"by_c_malloc\",\"value\":%d}\n", count*leakBytes)
	fmt.Println("done")
	input.ReadString('\n')
	os.Exit(42)
}
