// net/http against the address in argv: kept connections, uploads of both kinds, Expect, many at once.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"time"
)

type seen struct {
	Method string
	URL    string
	Bytes  int
}

func check(good bool, what ...interface{}) {
	if !good {
		fmt.Fprintln(os.Stderr, what...)
		os.Exit(1)
	}
}

func do(request *http.Request) seen {
	answer, err := http.DefaultClient.Do(request)
	check(err == nil, err)
	defer answer.Body.Close()
	var got seen
	body, err := io.ReadAll(answer.Body)
	check(err == nil && answer.StatusCode == 200, err, answer.Status)
	check(json.Unmarshal(body, &got) == nil, string(body))
	return got
}

func main() {
	base := os.Args[1]
	http.DefaultTransport.(*http.Transport).ExpectContinueTimeout = 5 * time.Second
	var all sync.WaitGroup
	for worker := 0; worker < 8; worker++ {
		all.Add(1)
		go func(worker int) {
			defer all.Done()
			for number := 0; number < 50; number++ {
				path := fmt.Sprintf("/get/%d/%d?a=b", worker, number)
				request, _ := http.NewRequest("GET", base+path, nil)
				check(do(request).URL == path, path)
			}
		}(worker)
	}
	all.Wait()
	request, _ := http.NewRequest("POST", base+"/post", bytes.NewReader(make([]byte, 300000)))
	request.Header.Set("Expect", "100-continue")
	check(do(request).Bytes == 300000, "post")
	reader, writer := io.Pipe()
	go func() {
		for piece := 0; piece < 100; piece++ {
			writer.Write(make([]byte, 1000))
		}
		writer.Close()
	}()
	request, _ = http.NewRequest("POST", base+"/chunks", reader)
	check(do(request).Bytes == 100000, "chunks")
	answer, err := http.Get(base + "/big")
	check(err == nil, err)
	count, err := io.Copy(io.Discard, answer.Body)
	check(err == nil && count == 1000000, count, err)
	fmt.Println("all good")
}
