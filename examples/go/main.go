// A small shop that Handover can replace while it is being used, and that stops in phases.
package main

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

func main() {
	stop, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer cancel()

	version := os.Getenv("HANDOVER_VERSION")
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "shop, version", version) })
	http.HandleFunc("/healthz", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "ok") })
	http.HandleFunc("/slow", func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(time.Second)
		fmt.Fprintln(w, "that took a second")
	})

	work, stopWork := context.WithCancel(context.Background())
	var background sync.WaitGroup
	background.Add(1)
	go func() { // Mails, a cache, whatever goes on beside requests; here it only waits for its end.
		defer background.Done()
		<-work.Done()
	}()

	// Handover chooses the port: two releases run side by side while one takes over from the other.
	server := &http.Server{Addr: "127.0.0.1:" + os.Getenv("PORT")}
	go func() {
		if err := server.ListenAndServe(); err != http.ErrServerClosed {
			log.Fatal(err)
		}
	}()
	<-stop.Done()

	// The order matters: each phase may still need what the next one takes away.
	log.Println("stopping: no new connections, then the requests in flight")
	limit, done := context.WithTimeout(context.Background(), 20*time.Second)
	defer done()
	if err := server.Shutdown(limit); err != nil {
		log.Println("some requests took too long:", err)
	}
	log.Println("stopping: background work")
	stopWork()
	background.Wait()
	log.Println("stopping: the database pool") // pool.Close()
	log.Println("stopping: the lock")          // Last: now another one may work.
}
