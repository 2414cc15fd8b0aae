// A broker for tests that speaks Kafka's protocol: kfake, with TLS and SCRAM by flags. It prints a line per broker.
package main

import (
	"crypto/tls"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/twmb/franz-go/pkg/kfake"
)

func main() {
	brokers := flag.Int("brokers", 1, "number of brokers")
	user := flag.String("user", "", "name of the one user; SASL is off without")
	password := flag.String("password", "", "the user's password")
	mechanism := flag.String("mechanism", "SCRAM-SHA-256", "the user's mechanism")
	certificate := flag.String("certificate", "", "certificate file; TLS is off without")
	key := flag.String("key", "", "the certificate's key file")
	flag.Parse()
	options := []kfake.Opt{kfake.NumBrokers(*brokers)}
	if *user != "" {
		options = append(options, kfake.EnableSASL(), kfake.Superuser(*mechanism, *user, *password))
	}
	if *certificate != "" {
		pair, err := tls.LoadX509KeyPair(*certificate, *key)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		options = append(options, kfake.TLS(&tls.Config{Certificates: []tls.Certificate{pair}}))
	}
	cluster, err := kfake.NewCluster(options...)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	defer cluster.Close()
	for _, address := range cluster.ListenAddrs() {
		fmt.Println(address)
	}
	fmt.Println("ready")
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	<-stop
}
